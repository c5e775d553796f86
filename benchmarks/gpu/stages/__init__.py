"""The stages of `benchmarks.gpu.hardware`: a module each, with `cases(settings)`."""

# In order of worth, with their shares of the budget; what one leaves over goes to those after it.
SHARES = {"ceilings": 5, "correctness": 20, "operators": 35, "models": 30, "digits": 10}
