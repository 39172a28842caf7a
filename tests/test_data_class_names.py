"""Files that name classes."""

import pytest

from data.class_names import describe_similar, read_folder_names, read_label_names
from data.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write_file(text, encoding="utf-8"):
        path = tmp_path / "names.txt"
        path.write_bytes(text.encode(encoding))
        return str(path)

    return write_file


def test_imagenets_list(write):
    path = write("n01440764 tench, Tinca tinca\nn02012849 crane\n\nn03126707 crane\nn1\tméduse\n")
    assert read_folder_names(path) == {
        "n01440764": "tench, Tinca tinca",
        "n02012849": "crane (n02012849)",
        "n03126707": "crane (n03126707)",
        "n1": "méduse",
    }


def test_folders_with_white_space_are_quoted_and_accents_have_one_form(write):
    path = write('"golden retriever" Golden\n"wild  cat" "Wild cat"\n"odd" "Kitty" and others\ncafe\u0301 Cafe\u0301\n')
    assert read_folder_names(path) == {
        "golden retriever": "Golden",
        "wild  cat": "Wild cat",
        "odd": '"Kitty" and others',
        "caf\u00e9": "Caf\u00e9",
    }
    with pytest.raises(UserError, match="holds 'caf\u00e9' twice"):
        read_label_names(write("caf\u00e9\ncafe\u0301\n"))


def test_classes_that_only_case_or_white_space_tells_apart_are_named():
    assert describe_similar(["dog", "cat", "Cat", "cat ", "Dog", "bird"]) == (
        "learnt as different classes: 'Cat' and 'cat' and 'cat '; 'Dog' and 'dog'; if these are one, rename one as the"
        " other"
    )
    assert describe_similar(["cat", "catfish"]) is None


def test_label_names(write):
    assert read_label_names(write("cat\r\ndog \nwild boar\n\n \n")) == ["cat", "dog", "wild boar"]


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_folder_names, "a cat\nb", "line 2 of .* has no class name"),
        (read_folder_names, "a cat\na dog", "line 2 of .* names the folder a again"),
        (read_folder_names, "a cat\n\nb", "line 3 of .* has no class name"),
        (read_folder_names, "\n", "which is empty"),
        (read_label_names, "\n\n", "which is empty"),
        (read_label_names, "cat\n\ndog\n", "line 2 of .* is blank"),
        (read_label_names, "\ncat\n", "line 1 of .* is blank"),
        (read_label_names, "cat\ncat", "holds 'cat' twice"),
    ],
)
def test_refuses(write, read, text, message):
    with pytest.raises(UserError, match=message):
        read(write(text))


def test_refuses_what_it_cannot_read(write, tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_label_names(str(tmp_path / "missing.txt"))
    with pytest.raises(UserError, match="cannot be read"):
        read_label_names(write("méduse", "latin-1"))
