"""What tests share. Fakes live here and nowhere else."""
