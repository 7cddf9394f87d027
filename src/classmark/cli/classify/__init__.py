"""``classmark classify``: papers in, one line or object for each out."""
