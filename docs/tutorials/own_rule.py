# %% [markdown]
# # Check your own pruning rule against theory and simulation
#
# This tutorial is being written. [Replica](../replica.md) says what can be solved meanwhile.

# %%
from theory import Hard

print(Hard().name)
