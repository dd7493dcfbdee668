"""Library operators in a core: which iterators take which place, the match, its proof, and operands brought to their place."""
