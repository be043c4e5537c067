"""The CustomResourceDefinitions and the reference page, derived from the types."""
