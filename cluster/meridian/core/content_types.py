"""Content types by the end of a file's name. Our own table, because those of machines differ, and with them would the
answers of nodes. The names are of the IANA's registry; text is UTF-8, as it is in files of the web today."""

_UTF_8 = b"; charset=utf-8"
UNKNOWN = b"application/octet-stream"

TYPES: dict[bytes, bytes] = {
    # Text
    b"html": b"text/html" + _UTF_8, b"htm": b"text/html" + _UTF_8, b"css": b"text/css" + _UTF_8,
    b"js": b"text/javascript" + _UTF_8, b"mjs": b"text/javascript" + _UTF_8, b"txt": b"text/plain" + _UTF_8,
    b"md": b"text/markdown" + _UTF_8, b"csv": b"text/csv" + _UTF_8, b"ics": b"text/calendar" + _UTF_8,
    b"vtt": b"text/vtt" + _UTF_8, b"xml": b"application/xml", b"json": b"application/json",
    b"jsonld": b"application/ld+json", b"map": b"application/json", b"geojson": b"application/geo+json",
    b"webmanifest": b"application/manifest+json", b"atom": b"application/atom+xml", b"rss": b"application/rss+xml",
    b"xhtml": b"application/xhtml+xml", b"yaml": b"application/yaml", b"yml": b"application/yaml",
    # Images
    b"svg": b"image/svg+xml", b"png": b"image/png", b"jpg": b"image/jpeg", b"jpeg": b"image/jpeg",
    b"gif": b"image/gif", b"webp": b"image/webp", b"avif": b"image/avif", b"jxl": b"image/jxl",
    b"ico": b"image/vnd.microsoft.icon", b"bmp": b"image/bmp", b"tif": b"image/tiff", b"tiff": b"image/tiff",
    # Sound and film
    b"mp3": b"audio/mpeg", b"m4a": b"audio/mp4", b"ogg": b"audio/ogg", b"opus": b"audio/ogg", b"wav": b"audio/vnd.wave",
    b"flac": b"audio/flac", b"mp4": b"video/mp4", b"m4v": b"video/mp4", b"webm": b"video/webm", b"ogv": b"video/ogg",
    b"mov": b"video/quicktime", b"ts": b"video/mp2t", b"m3u8": b"application/vnd.apple.mpegurl",
    b"mpd": b"application/dash+xml",
    # Fonts
    b"woff": b"font/woff", b"woff2": b"font/woff2", b"ttf": b"font/ttf", b"otf": b"font/otf",
    b"ttc": b"font/collection",
    # What programs read
    b"wasm": b"application/wasm", b"pdf": b"application/pdf", b"zip": b"application/zip", b"gz": b"application/gzip",
    b"tgz": b"application/gzip", b"zst": b"application/zstd", b"tar": b"application/x-tar",
    b"7z": b"application/x-7z-compressed", b"epub": b"application/epub+zip", b"rtf": b"application/rtf",
    b"docx": b"application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    b"xlsx": b"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    b"pptx": b"application/vnd.openxmlformats-officedocument.presentationml.presentation",
}  # fmt: skip
