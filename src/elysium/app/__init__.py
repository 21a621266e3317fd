"""The web app: what `elysium app` serves.

The server process decodes no upload and runs no model. Uploads are opened in a process of their own with limits
(`confine`, `intake`) and become JPEG frames in the visitor's folder (`clips`, `visitors`); the model lives in another
process (`worker`, with what it is asked in `tasks`), which may be killed and is started again (`jobs`). `desk` is what
a visitor can do, without a page; `page` and `api` are its two faces, `server` puts all of it behind an address.
"""
