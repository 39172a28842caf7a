"""Amazon S3, and stores that speak its language: of `data`, this folder alone imports Amazon's client."""
