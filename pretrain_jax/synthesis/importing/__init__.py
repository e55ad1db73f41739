"""Makes PNG files and image lists of medical images, in which nothing names a patient."""
