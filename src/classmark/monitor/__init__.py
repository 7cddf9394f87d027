"""-> DRIFT: what the journal says of a served model: drift and accuracy with and without labels."""
