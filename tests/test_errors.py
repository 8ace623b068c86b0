from featviz.errors import nearest


def test_the_nearest_name_or_else_the_accepted_ones_are_named():
    names = ["vgg19", "efficientnet_lite0"]
    assert nearest("vgg91", names) == "did you mean 'vgg19'?"
    assert nearest("?", names) == "accepted: 'vgg19', 'efficientnet_lite0'"
    assert nearest("?", [str(i) for i in range(9)]) == "accepted: '0', '1', '2', '3', '4', '5' …"
