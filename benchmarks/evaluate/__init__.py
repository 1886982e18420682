"""The paper's evaluation for any anonymizer's output: re-identification, utility, quality, and k-anonymity."""
