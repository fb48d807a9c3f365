"""Networks of images: classifiers, segmentation and the discriminator of masks."""
