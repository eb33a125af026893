"""Files of captions as they come with data sets, and what is no good in them."""

import pytest

from itmatch.formats.records import texts_of_record
from itmatch.vision.caption_files import caption_records

PAIRS = [("a.jpg", "a dog, brown"), ("b.jpg", 'the "cat"'), ("a.jpg", "one more")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("captions.txt", 'image,caption\na.jpg,"a dog, brown"\nb.jpg,"the ""cat"""\na.jpg,one more\n'),  # Flickr8K
        (
            "results.csv",  # Flickr30K
            'image_name| comment_number| comment\na.jpg| 0| a dog, brown\nb.jpg| 0| the "cat"\na.jpg| 1| one more\n',
        ),
        ("results.token", 'a.jpg#0\ta dog, brown\nb.jpg#0\tthe "cat"\na.jpg#1\tone more\n'),
        ("metadata.csv", '"file_name","text"\n"a.jpg","a dog, brown"\n\nb.jpg,"the ""cat"""\na.jpg,one more'),
        (
            "metadata.jsonl",  # of a folder of datasets
            '{"file_name": "a.jpg", "text": "a dog, brown"}\n{"file_name": "b.jpg", "text": "the \\"cat\\""}\n\n'
            '{"file_name": "a.jpg", "text": "one more"}\n',
        ),
        ("c.tsv", 'Caption\tn\tFile\r\na dog, brown\t1\ta.jpg\r\nthe "cat"\t2\tb.jpg\r\none more\t3\ta.jpg\r\n'),
        ("c.csv", ';filepath;path;captions\n0;x;a.jpg;a dog, brown\n1;x;b.jpg;the "cat"\n2;x;a.jpg;one more\n'),
        ("c.txt", 'a.jpg\ta dog, brown\nb.jpg\tthe "cat"\na.jpg\tone more\n'),
    ],
)
def test_which_photo_has_which_captions(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    found = [(photo, texts_of_record(record)) for photo, record in caption_records(tmp_path / name)]
    assert found == [(photo, [text]) for photo, text in PAIRS]


def test_a_table_may_name_splits_and_a_caption_have_several_lines(tmp_path):
    (tmp_path / "c.csv").write_text('file,split,caption\na.jpg,train,"a dog\nat home"\nb.jpg,test,\n')
    records = list(caption_records(tmp_path / "c.csv"))
    assert [(name, record["split"], record["caption"]) for name, record in records] == [
        ("a.jpg", "train", "a dog\nat home"),
        ("b.jpg", "test", ""),
    ]


def test_names_with_a_number_sign_and_lines_with_commas(tmp_path):
    (tmp_path / "c.txt").write_text("b#1\tshows a file, image, text\nb#1.jpg\tone\nb.JPG#12\ttwo\n")
    assert [name for name, _ in caption_records(tmp_path / "c.txt")] == ["b#1", "b#1.jpg", "b.JPG"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", "photo,words\n", r"c\.csv:1: 'photo,words', expected the names of columns, such as file and caption"),
        ("c.csv", "file,caption\na.jpg,a dog, brown\n", r"c\.csv:2: 3 columns, expected 2 as in the first line"),
        ("c.csv", 'file,caption\na.jpg,"a dog\n', r"c\.csv:2: unexpected end of data"),
        ("c.csv", "file,caption\n,a dog\n", None),
        ("c.jsonl", '{"file_name": "a.jpg"}\n', r"c\.jsonl:1 is \{.*\}, expected a file and captions"),
        ("c.jsonl", '{"file": "a.jpg", "text": "a"}\n\n[]\n', r"c\.jsonl:3 is \[\], expected a file and captions"),
        ("c.jsonl", "{\n", r"c\.jsonl:1: not json"),
        ("c.txt", "a.jpg a dog\n", r"c\.txt:1: 'a\.jpg a dog', expected a file and a caption with a tab between them"),
    ],
)
def test_what_is_no_good(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    if message is None:  # a name that no photo has, which is told of where photos are known
        assert [given for given, _ in caption_records(tmp_path / name)] == [""]
        return
    with pytest.raises(ValueError, match=message):
        list(caption_records(tmp_path / name))
