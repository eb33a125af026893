"""Where splits come from: folders, json files, photos; and the check of what they hold."""
