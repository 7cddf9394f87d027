"""``classmark cloud``: the same system on Google Cloud."""
