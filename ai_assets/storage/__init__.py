"""Where everything is kept: state store, lake, search index, warehouse, leases."""
