package weights

// dinoID is the published DINOv2 tower (ViT-L/14 with four registers).
const dinoID = "vit_large_patch14_reg4_dinov2.lvd142m"

// dinov2 is the first tower: a class token and register tokens stand before the
// patches, and each residual branch has a LayerScale, stored as scale_factor.
// Tensor shapes tell all but the heads.
func dinov2(t tensorSource, c *config) (*vit, error) {
	v, err := newViT(t, c, 0, "vision_backbone.featurizer.")
	if err != nil {
		return nil, err
	}
	v.classToken = t.has(v.prefix + "cls_token")
	v.layerScale = t.has(v.prefix + "blocks.0.ls1.scale_factor")
	if reg, ok := t[v.prefix+"reg_token"]; ok && len(reg.shape) == 3 {
		v.registers = int(reg.shape[1])
	}
	return v, nil
}
