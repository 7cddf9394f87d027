"""What watches in Google Cloud, all of it made from the rules of Prometheus."""
