"""The paper's evaluation of any anonymizer: re-identification, utility, quality and k-anonymity."""
