"""A MODEL whose transformer is computed by Ray actors: one for each GPU, here or on other machines."""
