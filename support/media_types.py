"""The media types that we can check, and the other names under which clients send them."""

import mimetypes

# With Pillow's name of each format.
IMAGES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WEBP"}
PDF = "application/pdf"
TEXTS = ("text/plain", "text/csv", "text/markdown")
# HTML and SVG are missing because they can hold scripts. Other types are missing because we cannot recognize
# them by their bytes.
SUPPORTED = (*IMAGES, PDF, *TEXTS)

# How error messages call a type. For all others it is the subtype in capitals: PNG for image/png.
LABELS = {"image/webp": "WebP", "text/plain": "plain text", "text/markdown": "Markdown"}

# Other names of these types, as programs, browsers and the Windows registry use them.
ALIASES = {
    "image/png": ["image/x-png", "image/apng", "image/x-citrix-png"],
    "image/jpeg": ["image/jpg", "image/pjpeg", "image/jpe", "image/jfif", "image/x-citrix-jpeg"],
    "image/gif": ["image/x-gif", "image/x-citrix-gif"],
    "image/webp": ["image/x-webp"],
    PDF: ["application/x-pdf", "application/acrobat", "application/vnd.pdf", "text/pdf", "text/x-pdf"],
    "text/plain": ["text/x-log", "text/tab-separated-values", "application/txt"],
    "text/csv": [
        *("application/csv", "application/x-csv", "text/x-csv"),
        *("text/comma-separated-values", "text/x-comma-separated-values"),
    ],
    "text/markdown": ["text/x-markdown", "application/markdown", "application/x-markdown", "text/md"],
}
TYPE_OF_ALIAS = {alias: mime_type for mime_type, aliases in ALIASES.items() for alias in aliases}

# These types say nothing about the file, so its name decides. Windows with Excel sends a .csv file as an
# Excel file.
UNKNOWN = "application/octet-stream"
UNKNOWN_TYPES = {
    *("", UNKNOWN, "binary/octet-stream", "application/unknown", "application/x-unknown", "unknown/unknown"),
    *("application/download", "application/x-download", "application/force-download"),
    *("application/vnd.ms-excel", "application/excel", "application/x-excel", "application/x-msexcel"),
}

# Python's own list. The operating system's list differs between machines.
TYPE_OF_SUFFIX = mimetypes.MimeTypes(filenames=()).types_map[True] | {
    ".jfif": "image/jpeg",
    ".webp": "image/webp",
    ".csv": "text/csv",
    ".log": "text/plain",
    **dict.fromkeys([".md", ".markdown", ".mdown", ".mkd"], "text/markdown"),
    **dict.fromkeys([".xhtml", ".xht"], "application/xhtml+xml"),
}


def canonical(mime_type: str) -> str:
    """The type that this name is an alias of, or the name itself."""
    return TYPE_OF_ALIAS.get(mime_type, mime_type)


def label(mime_type: str) -> str:
    return LABELS.get(mime_type, mime_type.rpartition("/")[2].upper())
