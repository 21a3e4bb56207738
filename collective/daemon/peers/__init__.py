"""What is known of the others: what the store says, who answers, and whom we cut off."""
