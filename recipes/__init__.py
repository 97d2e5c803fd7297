"""Scripts to run and to copy: fine-tuning, evaluation, prediction."""
