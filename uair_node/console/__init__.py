"""The administrator's console: pages rendered on the server, read without JavaScript, behind a login.

`app` lists what there is; `desk` holds what requests share; `guard` decides who may ask. The other modules
are a page each, or one part of the login.
"""
