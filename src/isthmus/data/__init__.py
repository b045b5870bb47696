"""Where pictures come from: data sets, own folders, the offline demo set; splits; augmentation."""
