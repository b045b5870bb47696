"""Where images come from: data sets, own folders, the offline demo set; splits; augmentation."""
