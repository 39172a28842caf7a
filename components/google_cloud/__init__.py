"""What nodes do by Google Cloud's clients: no other folder of `components` imports one."""
