include $(sort $(wildcard $(BR2_EXTERNAL_LLM8850_PATH)/package/*/*.mk))
