"""The administrator's console: pages that the server renders, behind a login. They work without JavaScript.

`app` lists all pages. `console_app` has the parts that requests share. `guard` checks each request. Each
other module is a page or one part of the login.
"""
