# %% [markdown]
# # From a folder of images to a smaller one
#
# This tutorial is being written. [Features and keeping](../features.md) has the commands meanwhile.

# %%
import pretrain_jax

print(pretrain_jax.__name__)
