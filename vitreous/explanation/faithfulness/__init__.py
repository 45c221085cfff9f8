"""Whether maps tell what the model uses: what each measure needs, and the measures."""
