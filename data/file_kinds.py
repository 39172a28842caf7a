"""Says by its first bytes what a file is that no decoder takes, and what to do about it."""

import re

_CONVERT = "convert it to JPEG or PNG"
_DEVELOP = "develop it to JPEG, PNG or TIFF"
_LFS = "a Git LFS pointer: the picture itself was not fetched; run git lfs pull in the clone, or copy the files anew"

# The first that matches; in DOTALL, `.` is any byte.
_KINDS = (
    (rb"version https://git-lfs", _LFS),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", f"JPEG XL, which is not supported; {_CONVERT}"),
    (rb".{4}ftypcrx ", f"a camera's raw file; {_DEVELOP}"),
    (rb".{4}ftyp(hei|hev|mif1|msf1)", f"HEIC that cannot be read, cut off or corrupt; copy it anew, or {_CONVERT}"),
    (rb".{4}ftypavi[fs]", f"AVIF that cannot be read, cut off or corrupt; copy it anew, or {_CONVERT}"),
    (rb".{4}ftyp|.{4}moov|\x1aE\xdf\xa3|RIFF.{4}AVI ", "a video; take pictures out of it, or remove it"),
    (rb"IIRO|IIRS|IIU\0|MMOR|FUJIFILMCCD-RAW|FOVb", f"a camera's raw file; {_DEVELOP}"),
    (rb".{128}DICM", "DICOM, which is not supported; convert it to PNG, of 16 bits where it has more than 8"),
    (rb"\x93NUMPY|\x89HDF|MATLAB 5", "an array; store each of its pictures as a PNG"),
    (rb"%PDF", "a PDF; store its pictures as JPEG or PNG"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive; unpack it"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml.{,400}?)?<svg", f"SVG, which is not supported; {_CONVERT}"),
    (rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype html|html)", "a web page, as a failed download leaves it; download it anew"),
    (rb"\0\x05\x16[\0\x07]", "what macOS keeps beside a file; remove it"),
)


def name_kind(encoded: bytes) -> str | None:
    """Returns what a file is and what to do, for people; None where its first bytes say nothing known."""
    head = encoded[:512]
    return next((what for pattern, what in _KINDS if re.match(pattern, head, re.DOTALL)), None)
