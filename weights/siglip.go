package weights

// siglipID is the published SigLIP tower (SO400M/14 at 224 pixels).
const siglipID = "vit_so400m_patch14_siglip_224"

// siglip is the second tower: patches only. Checkpoints carry its pooling head,
// which nothing reads.
func siglip(t tensorSource, c *config) (*vit, error) {
	v, err := newViT(t, c, 1, "vision_backbone.fused_featurizer.")
	if err != nil {
		return nil, err
	}
	v.pool = t.has(v.prefix + "attn_pool.latent")
	return v, nil
}
