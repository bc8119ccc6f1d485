"""What HPS takes from open_clip: its tokenizer, its picture transform, its checkpoint layout."""
