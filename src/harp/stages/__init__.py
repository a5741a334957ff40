"""What turns one run directory into another: pretrain, prune, finetune, shrink; and evaluate, export, the whole job."""
