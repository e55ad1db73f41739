# %% [markdown]
# # How much of my data set do I need?
#
# This tutorial is being written. Meanwhile, read
# [How much of your data to keep](../advice.md).

# %%
from sklearn.datasets import load_digits

print(load_digits().data.shape)
