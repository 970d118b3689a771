"""Moving verified bytes between sites. Knows no pathology."""
