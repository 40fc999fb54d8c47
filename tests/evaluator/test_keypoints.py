from collections import Counter

import pytest

from evaluator.keypoints import all_keypoints, find_keypoint, group_names


def test_there_are_24_in_6_groups_of_the_published_sizes() -> None:
    points = all_keypoints()
    assert len({point.id for point in points}) == 24
    sizes = Counter(point.group for point in points)
    assert sizes == {"language": 3, "attributes": 5, "actions": 6, "relations": 6, "knowledge": 2, "text": 2}
    assert set(group_names()) == {*sizes, "other"}
    assert all(point.definition.endswith(".") and point.question.endswith("?") for point in points)


def test_bodies_count_for_the_four_actions_that_have_them() -> None:
    structural = {point.id for point in all_keypoints() if point.structural}
    assert structural == {"full_body_action", "hand_action", "animal_action", "contact_interaction"}


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("counting", "counting"),
        ("Cross-Entity Binding", "cross_entity_binding"),
        ("cross entity  binding", "cross_entity_binding"),
        ("CROSS_ENTITY_BINDING", "cross_entity_binding"),
        ("Grammar - Negation", "negation"),
        ("Grammar-Negation", "negation"),
        ("grammar – negation", "negation"),
        ("Attribute - Quantity", "counting"),
        ("Relationship - Inclusion", "containment_relation"),
        ("Compound - Feature Matching", "cross_entity_binding"),
        ("Action - Full-body (Character/Anthropomorphic)", "full_body_action"),
        ("Action - Non-contact Interaction", "non_contact_interaction"),
        ("Interaction without Contact", "non_contact_interaction"),
        ("Entity Layout - Three-Dimensional Space", "entity_layout"),
        ("World Knowledge", "knowledge_application"),
        ("Style", "artistic_style"),
        ("Text Generation (Case-insensitive)", "text_rendering"),
        ("语法-否定", "negation"),
        ("语法 － 否定", "negation"),
        ("属性-数量", "counting"),
        ("关系-包含关系", "containment_relation"),
        ("复合考点-不同实体特征匹配", "cross_entity_binding"),
        ("动作-人物/拟人全身动作", "full_body_action"),
        ("动作-实体间无接触互动", "non_contact_interaction"),
        ("实体布局-二维空间", "entity_layout"),
        ("世界知识", "knowledge_application"),
        ("风格", "artistic_style"),
        ("文本生成", "text_rendering"),
        ("Anything: Material", "material"),
    ],
)
def test_labels_of_data_sets_find_their_key_point(label: str, expected: str) -> None:
    assert find_keypoint(label).id == expected


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Attribute - Color", "attribute_color"),
        ("属性-颜色", "属性_颜色"),
        ("Logical  Reasoning", "logical_reasoning"),
        ("", "other"),
    ],
)
def test_unknown_labels_are_kept(label: str, expected: str) -> None:
    point = find_keypoint(label)
    assert (point.id, point.group) == (expected, "other")
    assert find_keypoint(point.id) == find_keypoint(point.id)
