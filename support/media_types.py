"""The media types that we can check, and other names that clients use for them."""

import mimetypes

# The values are Pillow's names of the formats.
IMAGES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WEBP"}
PDF = "application/pdf"
TEXTS = ("text/plain", "text/csv", "text/markdown")
# HTML and SVG are missing because they can contain scripts. Other types are missing because we cannot
# recognize them by their bytes.
SUPPORTED = (*IMAGES, PDF, *TEXTS)

# The names of types in error messages. For any other type, the name is the subtype in capitals: PNG for
# image/png.
LABELS = {"image/webp": "WebP", "text/plain": "plain text", "text/markdown": "Markdown"}

# Other names of these types, which programs, browsers and the Windows registry use.
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

# These types say nothing about the file, so the suffix of its name decides. Excel's types are among them,
# because Windows with Excel announces a .csv file as an Excel file.
UNKNOWN = "application/octet-stream"
UNKNOWN_TYPES = {
    *("", UNKNOWN, "binary/octet-stream", "application/unknown", "application/x-unknown", "unknown/unknown"),
    *("application/download", "application/x-download", "application/force-download"),
    *("application/vnd.ms-excel", "application/excel", "application/x-excel", "application/x-msexcel"),
}

# This is Python's own list. The list of the operating system is not the same on all machines.
TYPE_OF_SUFFIX = mimetypes.MimeTypes(filenames=()).types_map[True] | {
    ".jfif": "image/jpeg",
    ".webp": "image/webp",
    ".csv": "text/csv",
    ".log": "text/plain",
    **dict.fromkeys([".md", ".markdown", ".mdown", ".mkd"], "text/markdown"),
    **dict.fromkeys([".xhtml", ".xht"], "application/xhtml+xml"),
}


def canonical(mime_type: str) -> str:
    """Return the type for which this name is an alias, or the name itself."""
    return TYPE_OF_ALIAS.get(mime_type, mime_type)


def label(mime_type: str) -> str:
    return LABELS.get(mime_type, mime_type.rpartition("/")[2].upper())
