"""Tables of images: a path, a label and more in each row; one module for each kind of file that holds one."""
