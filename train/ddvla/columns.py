"""What the columns of a data set mean, as `ddvla export` is to be told it.

It takes a checkpoint's columns for those of the robot with two arms; another layout is given by its name, or as JSON
files beside the checkpoint with the entries of dataset.json.
"""

ASSUMED = "cobot_magic"
OPENING = 0.07  # of the gripper, in m


def arm(side):
    """Six joints and a gripper."""
    joints = [{"name": f"{side}_joint{i}", "space": "joint", "arm": side, "unit": "rad"} for i in range(1, 7)]
    rule = {"mode": "metres", "open": OPENING, "close": 0}
    return [*joints, {"name": f"{side}_gripper", "space": "joint", "arm": side, "unit": "m", "gripper": rule}]


# Those of export's layouts (weights/layout.go) that `ddvla dataset` and `ddvla sim demos` write columns of.
LAYOUTS = {ASSUMED: arm("left") + arm("right"), "left_arm": arm("left"), "right_arm": arm("right")}


def state(layout):
    """The entries of the robot state of a layout."""
    return [{key: column[key] for key in ("name", "arm", "unit")} for column in LAYOUTS[layout]]


def options(action, proprio):
    """{option of export: name of a layout, or entries for a file}, of what it would not assume; proprio is empty where
    the network takes none of it."""
    layout = next((name for name in LAYOUTS if LAYOUTS[name] == action), None)
    told = {} if layout == ASSUMED else {"action-dims": layout or action}
    # export assumes the state of the layout of the columns, which a file has none of.
    if proprio and not (layout and state(layout) == proprio):
        told["proprio-dims"] = next((name for name in LAYOUTS if state(name) == proprio), proprio)
    return told
