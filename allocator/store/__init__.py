"""Every SQL statement of the product: one file per table or two, explicit Core, no lazy loading.

Functions take the connection of the caller's transaction first and return what `allocator/model.py` names.
"""
