"""PDF and Office files to Markdown, by the libraries of the extra `knowledge`. It runs in a process of its own.

The converter follows from the suffix alone: markitdown's own choice would try others, down to taking bytes for text.
"""

import io
from typing import Final

from headrace_workers.features.knowledge.documents import DocumentRefused

CONVERTERS: Final = {
    ".pdf": "PdfConverter",
    ".docx": "DocxConverter",
    ".pptx": "PptxConverter",
    ".xlsx": "XlsxConverter",
    ".epub": "EpubConverter",
    ".ipynb": "IpynbConverter",
}


def to_markdown(data: bytes, suffix: str) -> str:
    """Return the document's text. Raise DocumentRefused with the reason alone if there is none.

    The pages of a PDF are parted by form feeds, unless there are tables in it. What else its libraries raise concerns
    this file.
    """
    try:
        from markitdown import MissingDependencyException, StreamInfo, converters
    except ImportError as error:
        raise DocumentRefused(
            f"{suffix} files are read by markitdown, which is not installed: pip install 'headrace[knowledge]'"
        ) from error
    try:
        if suffix == ".pdf":
            _open(data)
        converter = getattr(converters, CONVERTERS[suffix])()
        return str(converter.convert(io.BytesIO(data), StreamInfo(extension=suffix, charset="utf-8")).markdown)
    except (MissingDependencyException, ImportError) as error:
        raise DocumentRefused(
            f"{suffix} files need more of markitdown: pip install 'markitdown[{suffix.removeprefix('.')}]'"
        ) from error


def _open(data: bytes) -> None:
    """DocumentRefused for a PDF that needs a password: markitdown does not tell it from a broken one."""
    from pdfminer.pdfdocument import PDFDocument, PDFEncryptionError
    from pdfminer.pdfparser import PDFParser

    try:
        PDFDocument(PDFParser(io.BytesIO(data)))
    except PDFEncryptionError as error:
        raise DocumentRefused("it is encrypted: save it anew without a password") from error
