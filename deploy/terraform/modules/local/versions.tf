terraform {
  # terraform_data and cross-variable validation; no provider is needed.
  required_version = ">= 1.9, < 2.0"
}
