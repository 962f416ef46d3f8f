"""Methods that train coarser networks on the way."""
