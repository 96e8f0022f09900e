"""What can be wrong with a document."""

from apps.core.errors import ConflictError, InvalidRequestError, NoobleError, NotFoundError


class EmptyDocumentError(NoobleError):
    """There is no text in the document."""

    code = "empty_document"
    status = 422


class DocumentUnreadableError(NoobleError):
    """The document is damaged, or not of the kind that its name says."""

    code = "document_unreadable"
    status = 422


class DocumentEncryptedError(DocumentUnreadableError):
    """The document is protected by a password."""

    code = "document_encrypted"


class NotTextError(DocumentUnreadableError):
    """The file is named like a text, but holds something else."""

    code = "not_text"


class DocumentTooComplexError(DocumentUnreadableError):
    """Reading the document takes more memory or computing time than a document may take."""

    code = "document_too_complex"


class ParseTimeoutError(NoobleError):
    """Reading the document took too long."""

    code = "parse_timeout"
    status = 504
    # A document that is merely heavy runs into its computing time first: this long a wait means a busy host.
    retryable = True


class ParsingInterruptedError(NoobleError):
    """The reading of the document was cut off from outside."""

    code = "parsing_interrupted"
    status = 503
    retryable = True


class CollectionNotFoundError(NotFoundError):
    """There is no such collection, or it is not yours."""

    code = "collection_not_found"


class DocumentNotFoundError(NotFoundError):
    """There is no such document, or it is not yours."""

    code = "document_not_found"


class EmbeddingSpaceMismatchError(ConflictError):
    """The collection's vectors are of another embedding space.

    Vectors of different models, or of different lengths, cannot be compared. Both spaces stand in the error.
    """

    code = "embedding_space_mismatch"


class ChunkSizeMismatchError(ConflictError):
    """The collection has this document already, cut into chunks of another size."""

    code = "chunk_size_mismatch"


class LanguageUnknownError(InvalidRequestError):
    """There is no stemmer for this language."""

    code = "unknown_language"


class NotRetriableError(ConflictError):
    """Only a document that failed can be tried again."""

    code = "not_retriable"
