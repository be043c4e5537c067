"""What happens to an update, decided purely: facts and a clock in, a plan out.

The life of an update reads as the file names here; `decide` holds their order.
"""
