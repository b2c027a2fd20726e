"""The settings of the DICOM listener, a group of `orrery.settings`."""

from pydantic import BaseModel, ConfigDict, Field


class DicomSettings(BaseModel):
    """The DICOM listener, which hands on what it receives to the gateway."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="where the DICOM listener listens")
    port: int = Field(11112, ge=1, le=65535, description="the DICOM listener's port")
    title: str = Field("ORRERY", pattern=r"^[ -~]{1,16}$", description="its application entity title")
    allow: str = Field("", description="application entity titles that may send, separated by commas; empty: none")
    quiet_seconds: float = Field(30, gt=0, description="a study is complete when nothing more came for so long")
    key_file: str = Field("", description="file with the API key it uses; empty: the first key under home")
