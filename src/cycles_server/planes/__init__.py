"""Planes: what each is made of, and the application that serves one."""
