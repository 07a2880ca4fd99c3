"""The administrator's console: pages rendered on the server, read without JavaScript, behind a login.

`app` lists all pages. `console_app` has the parts that requests share. `guard` checks each request. Each
other module is a page or one part of the login.
"""
