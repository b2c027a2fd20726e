"""People who do not exist, with all that a hospital would write down of them: what de-identification must find."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

_CHARSETS: Mapping[str, tuple[str | list[str] | None, tuple[str, ...]]] = {
    "ascii": (
        None,
        (
            "Marlowe^Edith",
            "Okafor^Daniel",
            "Lindqvist^Signe",
            "Castellan^Hugues^^Dr",
            "Pemberton^Isolde",
            "Novak^Tomas",
        ),
    ),
    "latin": ("ISO_IR 100", ("Müller^Jürgen", "Çelik^Zoë", "Nuñez^José", "Ångström^Åsa", "Lefèvre^Hélène")),
    "cyrillic": ("ISO_IR 144", ("Соколова^Мария", "Орлов^Пётр")),
    "unicode": ("ISO_IR 192", ("Wang^XiaoDong=王^小东", "Παπαδοπούλου^Ελένη", "Ødegård^Bjørn", "Żółć^Łucja")),
    "japanese": (["", "ISO 2022 IR 87"], ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Suzuki^Hana=鈴木^花=すずき^はな")),
    "korean": (["", "ISO 2022 IR 149"], ("Hong^Gildong=洪^吉洞=홍^길동", "Kim^Heesoo=金^喜洙=김^희수")),
}
"""script -> SpecificCharacterSet, and names of it"""
_SHARES = (0.5, 0.15, 0.05, 0.15, 0.1, 0.05)
_STREETS = ("Quince Lane", "Tanner Row", "Harbour Steps", "Old Mill Road", "Juniper Close")
_TOWNS = ("Oberwinterfeld", "Nether Marling", "Porto Sereno", "Kvitnes", "Lower Ashby")
_HOSPITALS = ("St. Hedwig Infirmary", "Marling General", "Clinica Sereno", "Kvitnes Sykehus")
_BEGINNING = date(2025, 1, 1)
_DOCTORS = ("Thackeray^Winifred^^Dr", "Bellweather^Amos^^Dr", "Ivanhoe^Greta^^Dr")


@dataclass(frozen=True)
class Person:
    """Who a film claims to show."""

    charset: str | list[str] | None
    """SpecificCharacterSet; None: not said, plain ASCII"""
    name: str
    """as DICOM writes names"""
    number: str
    born: date
    address: str
    phone: str
    hospital: str
    doctor: str
    operator: str
    accession: str
    device: str

    @property
    def printed(self) -> str:
        """The name as an old machine prints it onto a film: capital Latin letters."""
        latin = self.name.partition("=")[0].replace("^", " ").strip().upper()
        return latin if latin.isascii() else f"PATIENT {self.number}"

    def words(self) -> tuple[str, ...]:
        """What must not be found anywhere afterwards, as text of four characters or more, or of another script."""
        names = "^".join((self.name.replace("=", "^"), self.doctor, self.operator)).split("^")
        numbers = (self.number, f"{self.born:%Y%m%d}", self.phone, self.accession, self.device)
        known = (*names, *numbers, self.address, self.hospital)
        return tuple(word for word in known if len(word) > 3 or not word.isascii())


def person(seed: int, age: float) -> Person:
    """Someone who is `age` at the beginning of 2025; the same seed gives the same person."""
    rng = np.random.default_rng([21, seed])
    script = str(rng.choice(list(_CHARSETS), p=_SHARES))
    charset, names = _CHARSETS[script]
    return Person(
        charset=charset,
        name=str(rng.choice(names)),
        number=f"{rng.choice(['MR', 'P', 'ZX'])}{rng.integers(10**6, 10**7)}",
        born=_BEGINNING - timedelta(days=round(age * 365.25) + int(rng.integers(1, 365))),
        address=f"{rng.integers(1, 200)} {rng.choice(_STREETS)}, {rng.choice(_TOWNS)}",
        phone=f"0{rng.integers(100, 999)} 555{rng.integers(1000, 9999)}",
        hospital=str(rng.choice(_HOSPITALS)),
        doctor=str(rng.choice(_DOCTORS)),
        operator=f"Quillfeather^{rng.choice(['Adaline', 'Noortje', 'Pieter'])}",
        accession=f"ACC{rng.integers(10**7, 10**8)}",
        device=f"SN-{rng.integers(10**5, 10**6)}",
    )
